from animatediff_native.training.command import main  # pyright: ignore[reportMissingImports] - see animatediff_native.py

main()
