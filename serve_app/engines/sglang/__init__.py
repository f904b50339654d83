"""The production engine: SGLang's dLLM engine for text, and SGLang-diffusion's workers for FLUX and Wan.

Works with sglang 0.5.17 and is written against 0.5.23; what differs between them is named where it matters. The models
run in worker processes that SGLang spawns: this package starts them, asks them, watches them and ends them.
"""
