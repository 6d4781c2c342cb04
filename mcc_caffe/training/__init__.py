"""Training, below the command `mcc_caffe.train`, which reads the options.

- run_net: the solver and the net of a run, with the options in them
- resume: which snapshot a run resumes from, and which settings have changed since
- loop: one training process: net, loader and solver, step by step
- launcher: starts several such processes on one machine and ends them together
- gradient_exchange: keeps the weights of several processes equal
- prototxt_check: refuses a user's solver on which Caffe would abort or with which it would train
  nothing
- box_samples: draws the samples that the box head learns from
- box_head: the training of the box head, round by round
- child_process: runs the whole command in a process of its own, for the commands that need a
  training
- run_log: the log that a run writes, and plots and reports read
"""
