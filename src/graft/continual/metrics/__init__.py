"""Numbers read off the matrix of a stream. Each file one class: __call__(scores) -> an array over draws or seeds."""
