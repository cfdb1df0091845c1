"""Images: which ones an ID means, how they are decoded, augmented and loaded.

Start reading at `index.list_images`.
In reading order: vocabulary, folder_names, index, image_folders, folder_cache, settings, decoding,
partial_files, augmentations, transforms, crops, loading, dataset, loaders, examples,
example_sources, class_folders, class_images, image_files, file_headers, image_sizes, backdoor_patch, splits,
imports, synthetic, attributes, forging, qualities, picture_sets, made, drawn.
"""
