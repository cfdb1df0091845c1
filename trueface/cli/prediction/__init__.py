"""What `trueface predict` and `trueface pretrain` share: which model, what is printed and drawn.

Start reading at `model_choice`.
In reading order: model_choice, prediction_output, heat_maps, torch_import.
"""
