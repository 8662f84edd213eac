"""What a bundle is calibrated by: likelihood ratios, legs, conformal tables, confidence."""
