"""One module for each family of formats: its checks before decoding, and its `read` functions, which return a Gray."""
