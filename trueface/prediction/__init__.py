"""What a trained model says of photographs: answers, warnings, abstention, heat maps, model folders.

Start reading at `predictor.Predictor`.
In reading order: predictor, likeness, feature_distance, reference, selective, model_folder,
card, tested.
"""
