"""Front end for Keras 3 models."""
from .lower import lower
from .quiet import quiet


def from_keras(model, config: dict, output_dir, trainable=()):
    """Convert a Keras 3 model with hls4ml and check that hwgen can take it.

    Parameters
    ----------
    model : keras.Model
        Dense layers and activations (docs/layers.md); its weights rounded and clipped to codes of
        their types.
    config : dict
        hls4ml's configuration, as ``hls4ml.utils.config_from_keras_model(model,
        granularity="name", backend="Vitis")`` makes it, with types and reuse factors filled in.
    output_dir : path
        Where hls4ml writes its C++ project.
    trainable : iterable of str
        Names of the layers that will learn.

    Returns
    -------
    hls4ml.model.ModelGraph
        For :func:`lower` and :class:`Emulation`.
    """
    with quiet(output_dir):
        import hls4ml
        graph = hls4ml.converters.convert_from_keras_model(
            model, hls_config=config, output_dir=str(output_dir), backend="Vitis",
            io_type="io_parallel", part="xcku115-flvb2104-2-e", write_weights_txt=False,
            bit_exact=False)
    lower(graph, trainable)
    return graph
