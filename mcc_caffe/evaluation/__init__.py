"""Measures the accuracy of networks, and reports it.

metrics             the formulas: PCK, AUC, EPE, IoU and AP
predictions_file    the JSON form in which other systems hand in their predictions
prediction_runner   runs the compared models over the samples of a set
model_scores        turns one model's predictions into the numbers of results.json
evaluation_report   writes an evaluation as JSON, Markdown, CSV and a sheet of pictures
pck_figures         draws the PCK curves of an evaluation
ablation_report     reports whether the two stages help each other, from several trainings
training_comparison runs and evaluates the trainings that a command compares
"""
