"""Training, below the command `mcc_caffe.train`, which reads the options.

- loop: one training process: net, loader and solver, step by step
- launcher: starts several such processes on one machine and ends them together
- gradient_exchange: keeps the weights of several processes equal
- run_log: the log that a run writes, and plots and reports read
"""
