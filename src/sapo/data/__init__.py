"""Where rows come from: `embedded` in two wheels of the package index, the `catalog` of SuperNI and TRACE, or a `folder`."""
