"""What a trained model says of photographs: answers, warnings, abstention, heat maps, model folders.

Start reading at `predictor.Predictor`.
In reading order: predictor, likeness, image_formats, feature_distance, reference, selective, heat_map,
heat_picture, model_folder, model_test, card, tested.
"""
