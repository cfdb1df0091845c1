"""Training on several qualities of each image at once, and features that shall agree between them.

Quality-agnostic detection after B. M. Le and S. S. Woo, "Quality-agnostic deepfake detection with
intra-model collaborative learning" (QAD), ICCV 2023. Start reading at `collaboration.CollaborationObjective`.
"""
