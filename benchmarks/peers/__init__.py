"""Other systems on the same data, beside which our nets and loaders are measured."""
