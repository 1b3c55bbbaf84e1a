"""How a stream of domains is learned. Each file one class: __call__(turn) -> Lesson, or None where it waits."""
