"""Everything that ends on a page: one folder per page, each with its stage, facts and template."""
