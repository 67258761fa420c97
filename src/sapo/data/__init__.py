"""Where rows come from: `embedded` in two wheels, the `catalog` of SuperNI and TRACE, or a `folder`."""
