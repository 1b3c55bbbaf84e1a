"""Documents into rows into batch k, a pure function of (seed, mixture, k). No model."""
