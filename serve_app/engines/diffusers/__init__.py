"""The diffusers engine: LLaDA2, FLUX and Wan pipelines, on a CPU or a GPU. One worker thread per engine."""
