"""Serves the pages and answers of `mcc_caffe.web`.

What several servers use:

- app: the web application; it needs FastAPI, which the extra `[web]` brings, and `mcc_caffe.web`
  imports it only when it serves
- bounded_server: the server that it runs in, which bounds connections and waiting times
- site: the files of each page, and the live page's export for any web server
- request_body: reads what a request sends, no more of it than is allowed

The live page:

- model: the network as a browser gets it

The server for programs:

- hands_api: the hands of an image over HTTP

The labelling page:

- labelling: the state of a folder that is being labelled
- label_messages: what the page and the state tell each other
- label_api: the addresses by which the page talks to it
- label_documents: what a person's labels of an image are, as the page and the files have them
- label_files: the images of a folder, and the files beside them that hold the labels
- label_export: writes the finished images as data sets
- net_answers: what the net says of each image, computed once
- mask_refinement: draws the net's coarse mask along the edges of the image
- run_lengths: masks as run lengths
- moved_images: lets labels follow images that were moved or renamed
"""
