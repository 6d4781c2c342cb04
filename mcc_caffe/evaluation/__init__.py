"""Measures the accuracy of networks, and reports it.

Of a hand in each image:

- metrics: the formulas: PCK, AUC, EPE, IoU and AP
- predictions_file: the JSON form in which other systems hand in their predictions
- image_keys: finds the image of a sample among those that a file of results names
- prediction_runner: runs the compared models over the samples of a set
- model_names: the short names of the compared models and sets
- model_scores: turns one model's predictions into the numbers of results.json
- evaluation_report: writes an evaluation as JSON, Markdown, CSV and a sheet of images
- pck_figures: draws the PCK curves of an evaluation

Of all hands in whole scenes:

- scene_runner: searches scenes, and compares the answers with the hands that people drew
- scene_scores: the numbers of such a comparison, and those of images without hands

Of images without hands:

- presence_runner: counts what is called present in them, and which labelled keypoints are lost

Of trainings:

- training_comparison: runs and evaluates the trainings that a command compares
- ablation_report: reports whether the two stages help each other, from several trainings
"""
