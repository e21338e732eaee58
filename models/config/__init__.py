"""Frozen Pydantic configurations of models and trainings; imports no torch.

A user sends *options*. A *config* is options completed with the modalities of a dataset: a model is built from it, and
a checkpoint stores it.
"""

from models.config.architecture import ArchitectureOptions as ArchitectureOptions
from models.config.architecture import MMVAEConfig as MMVAEConfig
from models.config.architecture import MMVAEOptions as MMVAEOptions
from models.config.architecture import MMVRNNConfig as MMVRNNConfig
from models.config.architecture import MMVRNNOptions as MMVRNNOptions
from models.config.architecture import ModelConfig as ModelConfig
from models.config.architecture import complete as complete
from models.config.architecture import in_todays_form as in_todays_form
from models.config.architecture import parse as parse
from models.config.conditional import ConditionalFlowConfig as ConditionalFlowConfig
from models.config.conditional import SequenceFlowConfig as SequenceFlowConfig
from models.config.frozen import Kind as Kind
from models.config.frozen import Misfit as Misfit
from models.config.frozen import Misfits as Misfits
from models.config.likelihood import Facts as Facts
from models.config.likelihood import LikelihoodName as LikelihoodName
from models.config.likelihood import Output as Output
from models.config.likelihood import Support as Support
from models.config.likelihood import default_likelihood as default_likelihood
from models.config.modality import ModalityConfig as ModalityConfig
from models.config.modality import ModalityOptions as ModalityOptions
from models.config.network import CNNConfig as CNNConfig
from models.config.network import CustomNetworkConfig as CustomNetworkConfig
from models.config.network import EmbeddingConfig as EmbeddingConfig
from models.config.network import MLPConfig as MLPConfig
from models.config.network import NetworkConfig as NetworkConfig
from models.config.schedules import BetaSchedule as BetaSchedule
from models.config.schedules import ConstantBeta as ConstantBeta
from models.config.schedules import CyclicalBeta as CyclicalBeta
from models.config.schedules import LearningRateSchedule as LearningRateSchedule
from models.config.schedules import LinearBeta as LinearBeta
from models.config.training import ELBO as ELBO
from models.config.training import IWAE as IWAE
from models.config.training import BurstDeletion as BurstDeletion
from models.config.training import DeletionMix as DeletionMix
from models.config.training import EarlyStopping as EarlyStopping
from models.config.training import IndependentDropout as IndependentDropout
from models.config.training import NumberDropout as NumberDropout
from models.config.training import SubsampledELBO as SubsampledELBO
from models.config.training import SubsetDropout as SubsetDropout
from models.config.training import TrainingConfig as TrainingConfig
