from animatediff_native.evaluation.command import main  # pyright: ignore[reportMissingImports] - see animatediff_native.py

if __name__ == "__main__":
    main()
