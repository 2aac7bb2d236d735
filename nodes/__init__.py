"""ComfyUI glue: schema, convert, call ``acfun_ops``, convert back."""
