"""Trains on a Ray cluster whose nodes all see this folder: python ray_train.py --workers N [arguments of train.py]"""
import argparse
import pathlib
import sys

import ray
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

HERE = pathlib.Path(__file__).resolve().parent


def loop(config):
    sys.path.insert(0, config["folder"])
    import train

    train.main(config["arguments"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, required=True, help="processes, each with a GPU")
    parser.add_argument("--cpu", action="store_true", help="processes have no GPU")
    args, others = parser.parse_known_args()
    ray.init()
    TorchTrainer(
        loop,
        train_loop_config={"folder": str(HERE), "arguments": others},
        scaling_config=ScalingConfig(num_workers=args.workers, use_gpu=not args.cpu),
    ).fit()
