from animatediff_native.training.command import main  # pyright: ignore[reportMissingImports] - see animatediff_native.py

if __name__ == "__main__":  # processes that decode shards import this file where they cannot be forked
    main()
