"""The entry point of `llamafactory-cli train`, for accelerate: accelerate launch … train.py config.yaml"""
from llamafactory.train.tuner import run_exp

if __name__ == "__main__":
    run_exp()
