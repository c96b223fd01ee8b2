"""What an exchange says, taken in: its sockets and its REST answers, by ccxt. Knows neither Kafka nor the topic."""
