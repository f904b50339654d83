"""The production engine: SGLang's dLLM engine for text, and SGLang-diffusion's workers for FLUX and Wan.

Written against sglang 0.5.23. The models run in worker processes that SGLang spawns: this package starts them, asks
them, watches them and ends them.
"""
