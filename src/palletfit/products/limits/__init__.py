"""Upper limits on the signal strength."""
