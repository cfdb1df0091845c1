"""The environment variables of trueface that a user sets; docs/environment.md is generated from this list."""

# name, meaning, value if it is not set
VARIABLES = (
    (
        "TRUEFACE_CACHE",
        "Folder for features, decoded images and lists of files.",
        "~/.cache/trueface",
    ),
    (
        "TRUEFACE_FEATURES_LIMIT",
        "Largest size of the feature store, such as 50GiB. 0 turns it off.",
        "20GiB, at most a tenth of the disk",
    ),
    (
        "TRUEFACE_DECODED_LIMIT",
        "Largest size of the decoded images, such as 200GiB.",
        "a quarter of the free disk space, at most half of the main memory",
    ),
    (
        "TRUEFACE_WEIGHTS",
        "Pretrained weights of models whose setting weights is default: a file, or none.",
        "",
    ),
    (
        "TRUEFACE_MODEL",
        "Model folder or checkpoint of trueface predict, if the command line names none.",
        "",
    ),
)
