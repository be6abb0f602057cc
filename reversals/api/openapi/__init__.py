"""The OpenAPI document: what each address takes and answers, generated from the ladders, and the pages that show it."""
