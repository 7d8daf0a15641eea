"""Our quantisation beside other tools' defaults, and codecs of the item table, by ranking."""
