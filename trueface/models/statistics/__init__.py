"""What detectors by statistics read of an image: fixed numbers, without anything fitted.

Start reading at `network.StatisticsNetwork`.
In reading order: network, families, colour, cosine_transform, block_cosine, spectrum, residuals,
residual_energy, blocks, block_statistics, block_moments, channel_correlations,
cell_profiles, moments.
"""
