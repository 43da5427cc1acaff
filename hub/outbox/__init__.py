"""What we owe others: put, claim, deliver, retry, park, replay."""
