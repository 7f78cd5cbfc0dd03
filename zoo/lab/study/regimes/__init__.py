"""The regimes. Each is a module that the rest does not know: ``configs/study/<name>.yaml`` names its class."""
