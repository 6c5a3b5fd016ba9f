"""The parts of benchmarks.training and benchmarks.gpu: most are processes of their own."""
