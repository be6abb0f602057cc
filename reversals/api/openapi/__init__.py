"""The OpenAPI document, generated from the views and the lists of refusals, and the pages that show it."""
