"""What a candle, a window, a prediction and a bundle are: pure code, no Kafka, no network, no clock of its own."""
