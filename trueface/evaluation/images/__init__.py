"""How far images are from images: errors, PSNR, SSIM, Fréchet distance; and the table of purifiers.

Start reading at `distances.mse`, then `restored.table`.
"""
