"""Serves the pages and answers of `mcc_caffe.web`: its app, its model and its static files.

`app` needs FastAPI, which the extra `[web]` brings; `mcc_caffe.web` imports it only when it serves.
"""
