"""What a trained model says of photographs: answers, warnings, abstention, heat maps, model folders.

Start reading at `predictor.Predictor`.
"""
