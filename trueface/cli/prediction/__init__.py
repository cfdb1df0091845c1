"""What `trueface predict` and `trueface pretrain` share: which model, what is printed and drawn.

Start reading at `model_choice`.
"""
