"""A generative adversarial network as one module: generator, discriminator, and the average.

What a discriminator returns differs from code to code; `GAN` reads logits off a tensor of logits or
of probabilities, a dict, or a tuple, and says clearly what it cannot read.
"""

from oblivio.generative.check import check_copies, check_images, check_pair
from oblivio.generative.logits import LOGIT_NAMES, read_logits
from oblivio.generative.pair import GAN, Images, Labels, Latents, as_gan
from oblivio.generative.sample import generate, images_of, scores
from oblivio.generative.unseen import alike, of_the_classes, unseen

__all__ = [
    "GAN",
    "LOGIT_NAMES",
    "Images",
    "Labels",
    "Latents",
    "alike",
    "as_gan",
    "check_copies",
    "check_images",
    "check_pair",
    "generate",
    "images_of",
    "of_the_classes",
    "read_logits",
    "scores",
    "unseen",
]
