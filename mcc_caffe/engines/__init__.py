"""Engines that run a deploy net: the same call, a batch of network inputs to (mask, heatmaps).

    engine.input_size                      m, pixels
    engine.has_mask, engine.has_pose       which of the two stages the net has
    engine(batch) -> (mask, heatmaps)      batch (N, 3, m, m) float32, (BGR - 128) / 256
                                           mask (N, m/8, m/8) float32, probability of hand; None without a mask stage
                                           heatmaps (N, 22, m/8, m/8) float32; None without a pose stage
"""
