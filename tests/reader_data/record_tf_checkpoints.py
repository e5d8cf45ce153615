"""Write the checkpoints of this folder with TensorFlow itself: `python record_tf_checkpoints.py` (2.21.0, CPU)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


class Trunk(tf.Module):
    """Variables of every type that matters, as an object graph names them."""

    def __init__(self) -> None:
        self.w = tf.Variable(KERNEL)
        self.average = tf.Variable([1.5, -2.0], dtype=tf.float64)
        self.counter = tf.Variable(7, dtype=tf.int64)
        self.half = tf.Variable([0.5, 2.0], dtype=tf.bfloat16)
        self.flag = tf.Variable(True)
        self.text = tf.Variable("text")


def save_objects() -> None:
    """Write `objects`, as Sonnet modules are saved."""
    tf.train.Checkpoint(module=Trunk()).write(str(HERE / "objects"))


def save_variables() -> None:
    """Write `variables`, plain names in two data files, and `sliced`, a variable in two parts."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as session:
        with tf.device("/cpu:0"):
            kernel = v1.get_variable("cnn0/conv1d/kernel", initializer=KERNEL)
        with tf.device("/cpu:1"):
            bias = v1.get_variable("final/dense/bias", initializer=np.array([0.5, 1.5], np.float32))
        part = v1.get_variable("part", shape=(4, 2), partitioner=v1.fixed_size_partitioner(2))
        session.run(v1.global_variables_initializer())
        plain = v1.train.Saver([kernel, bias], sharded=True)
        plain.save(session, str(HERE / "variables"), write_meta_graph=False, write_state=False)
        v1.train.Saver(list(part)).save(session, str(HERE / "sliced"), write_meta_graph=False, write_state=False)


if __name__ == "__main__":
    save_objects()
    save_variables()
