"""Loading: data sets of images and tables, transforms, samplers, the image cache and loaders."""
