"""Errors that end a stage with one line. For the pipeline's own files the command line adds advice."""


class DataError(Exception):
    """Input that cannot be used; the message names the file or key and says what to do."""


class ArtifactError(DataError):
    """A file that a stage writes is missing, damaged, or of another version of this program.

    stage: the stage to run again where DVC itself would not see that it has to.
    """

    def __init__(self, message: str, stage: str | None = None) -> None:
        super().__init__(message)
        self.stage = stage


class OtherRunError(ArtifactError):
    """A file of the pipeline that is whole, but of another run than what is asked for."""


class MixedRunsError(OtherRunError):
    """Files of the pipeline that are whole, but not of one run, without DVC seeing it."""


class OtherStudyError(OtherRunError):
    """A file of the study that is whole, but of other settings or versions than what is asked for."""
