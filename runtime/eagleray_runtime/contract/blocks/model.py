"""What a job trains: the family and its shape, its first weights, and the model that it starts from."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from eagleray_runtime.contract import stores
from eagleray_runtime.contract.blocks.base import Block, Name, Reference, Rule, not_both, only_with


class Family(StrEnum):
    """Model families."""

    LINEAR_REGRESSION = "LinearRegression"
    LOGISTIC_REGRESSION = "LogisticRegression"
    PERCEPTRON = "Perceptron"
    MULTILAYER_PERCEPTRON = "MultilayerPerceptron"
    CONVOLUTIONAL_NETWORK = "ConvolutionalNetwork"
    RECURRENT_NETWORK = "RecurrentNetwork"
    TRANSFORMER = "Transformer"
    PRETRAINED = "Pretrained"
    CUSTOM = "Custom"


TORCH_FAMILIES = frozenset(
    {Family.CONVOLUTIONAL_NETWORK, Family.RECURRENT_NETWORK, Family.TRANSFORMER, Family.PRETRAINED, Family.CUSTOM}
)
"""Families that only the torch engine has."""


class Activation(StrEnum):
    """Non-linearity between layers."""

    RELU = "ReLU"
    TANH = "Tanh"
    SIGMOID = "Sigmoid"
    GELU = "GELU"
    SILU = "SiLU"
    LEAKY_RELU = "LeakyReLU"


class MultilayerPerceptron(Block):
    """Shape of a multi-layer perceptron."""

    hidden_layers: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default_factory=lambda: [64],
        min_length=1,
        max_length=32,
        description="Number of units of each hidden layer, first to last. Default [64].",
    )
    activation: Activation = Field(
        Activation.RELU,
        description="Non-linearity after each hidden layer; GELU by its tanh approximation, LeakyReLU of slope 0.01. "
        "Default ReLU.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.95,
        description="Share of a hidden layer's units that a training step leaves out, drawn anew each step. Default 0.",
    )


class Pooling(StrEnum):
    """What halves width and height after a convolution."""

    MAX = "Max"
    AVERAGE = "Average"
    NONE = "None"


class ImageNormalization(StrEnum):
    """What the outputs of a convolution are brought to mean 0 and deviation 1 over."""

    BATCH = "Batch"
    NONE = "None"
    LAYER = "Layer"


class ConvolutionalNetwork(Block):
    """Shape of a convolutional network: convolutions, then dense layers."""

    channels: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default_factory=lambda: [32, 64],
        min_length=1,
        max_length=32,
        description="Number of channels of each convolution, first to last. Default [32, 64].",
    )
    kernel_size: int = Field(
        3, ge=1, le=31, description="Width and height of each convolution's kernel, in pixels; the border is zeros. Default 3."
    )
    pooling: Pooling = Field(
        Pooling.MAX,
        description="What halves width and height after each convolution: Max or Average of 2 by 2 pixels, or None. Default Max.",
    )
    hidden_layers: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default_factory=lambda: [128],
        min_length=1,
        max_length=32,
        description="Number of units of each dense hidden layer after the convolutions, first to last. Default [128].",
    )
    activation: Activation = Field(
        Activation.RELU,
        description="Non-linearity after each convolution and each hidden layer; GELU by its tanh approximation, LeakyReLU of "
        "slope 0.01. Default ReLU.",
    )
    normalization: ImageNormalization = Field(
        ImageNormalization.BATCH,
        description="What follows each convolution: Batch (mean 0, deviation 1 of each channel over the images of a step, on all "
        "workers; of a part of them with gradients.accumulationSteps; in serving over those of the training), Layer (over the "
        "channels and pixels of an image) or None; both with a learned scale and shift of each channel. Default Batch.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.95,
        description="Share of a hidden layer's units that a training step leaves out, drawn anew each step. Default 0.",
    )


class Cell(StrEnum):
    """What remembers from one step to the next."""

    LSTM = "LSTM"
    GRU = "GRU"
    PLAIN = "Plain"


class Direction(StrEnum):
    """Which way a window is read."""

    FORWARD = "Forward"
    BIDIRECTIONAL = "Bidirectional"


class RecurrentNetwork(Block):
    """Shape of a recurrent network: its state after a window, then one dense layer."""

    cell: Cell = Field(
        Cell.LSTM,
        description="What remembers from one step to the next: LSTM, GRU or Plain (tanh of the input and the state before). "
        "Default LSTM.",
    )
    hidden_size: int = Field(64, ge=1, le=65536, description="Number of units of each layer and direction. Default 64.")
    layers: int = Field(
        1, ge=1, le=64, description="Number of layers, each of which reads what the one before it says. Default 1."
    )
    direction: Direction = Field(
        Direction.FORWARD,
        description="Forward reads a window from its first row to its last, Bidirectional by as many units more the other way "
        "round too. Default Forward.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.95,
        description="Share of a layer's outputs that a training step leaves out, drawn anew each step. Default 0.",
    )


class TransformerArchitecture(StrEnum):
    """What a transformer is for."""

    ENCODER = "Encoder"
    DECODER = "Decoder"


class PositionalEncoding(StrEnum):
    """What tells a transformer where in the text a token stands."""

    LEARNED = "Learned"
    SINUSOIDAL = "Sinusoidal"


class TextPooling(StrEnum):
    """What an encoder says of a whole text."""

    MEAN = "Mean"
    FIRST = "First"


class Transformer(Block):
    """Shape of a transformer: layers of attention and two dense layers each, normalised before both."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.modelSize % self.heads == 0", "modelSize must be a multiple of heads"),
        *only_with("architecture", ("Encoder",), "pooling"),
    )

    architecture: TransformerArchitecture = Field(
        TransformerArchitecture.ENCODER,
        description="Encoder reads a whole text and tells its class or number (data.target); Decoder goes on with a text, of "
        "which it learns each next token from those before it (without data.target). Default Encoder.",
    )
    layers: int = Field(4, ge=1, le=256, description="Number of layers. Default 4.")
    heads: int = Field(4, ge=1, le=256, description="Attention heads of each layer. Default 4.")
    model_size: int = Field(128, ge=1, le=65536, description="Numbers that stand for a token, a multiple of heads. Default 128.")
    feed_forward_size: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Units of the hidden dense layer after each attention. Unset means four times modelSize.",
    )
    activation: Activation = Field(
        Activation.GELU,
        description="Non-linearity of the hidden dense layers; GELU by its tanh approximation, LeakyReLU of slope 0.01. "
        "Default GELU.",
    )
    positional_encoding: PositionalEncoding = Field(
        PositionalEncoding.LEARNED,
        description="What tells where in the text a token stands: Learned, or Sinusoidal, which has no parameters. "
        "Default Learned.",
    )
    pooling: TextPooling | None = Field(
        None,
        description="Encoder: what the answer is computed from, the Mean over the tokens or the First one, which stands before "
        "each text. Unset means Mean.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.95,
        description="Share of what attention and dense layers say, of the attention itself and of the first layer's input that a "
        "training step leaves out, drawn anew each step. Default 0.",
    )


class FineTuning(StrEnum):
    """Which weights of a pretrained model are learned further."""

    FULL = "Full"
    LORA = "LoRA"
    HEAD_ONLY = "HeadOnly"


class LoRA(Block):
    """Small matrices that are learned beside those of a model (Hu et al. 2022), and added to them in the end."""

    rank: int = Field(8, ge=1, le=1024, description="Rows of the first and columns of the second matrix. Default 8.")
    alpha: float = Field(16, gt=0, le=4096, description="The product of the two counts alpha / rank times. Default 16.")
    dropout: float = Field(
        0.0, ge=0, le=0.95, description="Share of a layer's inputs that its small matrices do not see in a step. Default 0."
    )
    target_modules: list[Name] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Layers that get such matrices, by the ends of their names (q_proj, v_proj). Unset means all dense layers "
        "but the last.",
    )


class Pretrained(Block):
    """A model that somebody trained on other text, to be learned further."""

    rules: ClassVar[tuple[Rule, ...]] = (*only_with("method", ("LoRA",), "lora"),)

    uri: str = Field(
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description="Folder of the model as Transformers saves it: config.json, *.safetensors and tokenizer.json. Code in it is "
        "never run, other formats of weights are refused. With data.target it tells classes or numbers, by a last layer that "
        "begins anew; without, it goes on with text.",
    )
    secret_ref: Reference | None = Field(
        None,
        description=stores.KEYS,
    )
    method: FineTuning = Field(
        FineTuning.FULL,
        description="Full learns all weights further; LoRA small matrices beside them, with far less memory for the optimizer; "
        "HeadOnly the layers alone that begin anew. The saved model is whole in each case. Default Full.",
    )
    lora: LoRA | None = Field(None, description="The small matrices of method LoRA. Unset means its defaults.")


class RemoteCode(StrEnum):
    """Whether code that a model brings may be run."""

    DENY = "Deny"
    ALLOW = "Allow"


Parameter = Annotated[str, Field(max_length=1024)]


class Custom(Block):
    """A network of the user's own, as a Python function makes it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        not_both("configMapRef", "uri"),
        Rule("!has(self.secretRef) || has(self.uri)", "secretRef goes with uri"),
    )

    entrypoint: str = Field(
        max_length=253,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
        description="module:function. The function is called with inputs (number of prepared columns; of pictures height, width "
        "and channels, of a sequence steps and columns, of text tokens and vocabulary), outputs (numbers that the network has to "
        "say of a row) and parameters, by these names, and returns a torch.nn.Module that takes float [rows, inputs] to "
        "[rows, outputs].",
    )
    config_map_ref: Reference | None = Field(
        None, description="ConfigMap whose keys that end in .py are the code. Unset without uri means that the image holds it."
    )
    uri: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description=f"A .py file, or a folder whose .py files are the code: {stores.PLACE}.",
    )
    secret_ref: Reference | None = Field(
        None,
        description=stores.KEYS,
    )
    parameters: dict[str, Parameter] = Field(
        default_factory=dict,
        max_length=64,
        description="What the function gets as parameters, texts by name. Default none.",
    )


class InitializationMethod(StrEnum):
    """How weights are drawn; Auto decides by the activation."""

    AUTO = "Auto"
    ZEROS = "Zeros"
    NORMAL = "Normal"
    UNIFORM = "Uniform"
    XAVIER_NORMAL = "XavierNormal"
    XAVIER_UNIFORM = "XavierUniform"
    HE_NORMAL = "HeNormal"
    HE_UNIFORM = "HeUniform"
    ORTHOGONAL = "Orthogonal"


class Initialization(Block):
    """First values of the weights; biases start at zero."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.scale) || !(self.method in ['Auto', 'Zeros'])", "scale goes with a method that draws"),
    )

    method: InitializationMethod = Field(
        InitializationMethod.AUTO,
        description="How weights are drawn. Auto: Zeros without hidden layers, He for ReLU and its kin, else (and for "
        "Transformer) Xavier. "
        "The last of several layers is drawn by Xavier where the method is He, for no ReLU follows it.",
    )
    scale: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Normal: standard deviation, unset 0.01. Uniform: bound, unset 0.05. Others: factor, unset 1.",
    )


class StartFrom(Block):
    """A model to go on from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.uri) != has(self.trainingJobRef)", "startFrom needs either uri or trainingJobRef"),
        Rule("!has(self.secretRef) || has(self.uri)", "secretRef goes with uri"),
    )

    uri: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description=f"Folder of a bundle: {stores.PLACE}.",
    )
    training_job_ref: Reference | None = Field(
        None, description="TrainingJob whose model it is; this one waits until that has succeeded."
    )
    secret_ref: Reference | None = Field(None, description=stores.KEYS)


class Model(Block):
    """What is trained."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.startFrom) || !(self.family in ['Transformer', 'Pretrained'])",
            "startFrom does not go with families Transformer and Pretrained, whose tokens are others: drop it",
        ),
        Rule(
            "!has(self.startFrom) || self.initialization.method == 'Auto'",
            "startFrom brings the first weights: drop initialization",
        ),
        Rule(
            "!has(self.multilayerPerceptron) || self.family == 'MultilayerPerceptron'",
            "multilayerPerceptron goes with family MultilayerPerceptron",
        ),
        *only_with("family", ("ConvolutionalNetwork",), "convolutionalNetwork"),
        *only_with("family", ("RecurrentNetwork",), "recurrentNetwork"),
        *only_with("family", ("Transformer",), "transformer"),
        Rule("has(self.pretrained) == (self.family == 'Pretrained')", "pretrained and family Pretrained go together"),
        Rule(
            "self.family != 'Pretrained' || (self.initialization.method == 'Auto' && !has(self.initialization.scale))",
            "a pretrained model has its weights: drop initialization",
        ),
        Rule("has(self.custom) == (self.family == 'Custom')", "custom and family Custom go together"),
        Rule(
            "self.family != 'Custom' || (self.initialization.method == 'Auto' && !has(self.initialization.scale))",
            "a network of your own draws its first weights itself: drop initialization",
        ),
    )

    family: Family = Field(
        description="Model family. Perceptron is the classic learning rule: labels without probabilities. ConvolutionalNetwork "
        "learns from images, RecurrentNetwork from windows of rows (data.sequence), Transformer from text (data.text), "
        "Pretrained from text too, beginning with a model that was trained before, Custom from columns, windows, "
        "pictures or text by a network of your own; all with engine Torch."
    )
    initialization: Initialization = Field(
        default_factory=Initialization, description="First values of the weights; biases start at zero."
    )
    start_from: StartFrom | None = Field(
        None,
        description="Model whose weights training goes on from, instead of drawing them; the optimiser starts anew. It must have "
        "the same shape, columns and classes, and its preparation is taken as it is. Unset means none.",
    )
    multilayer_perceptron: MultilayerPerceptron | None = Field(
        None,
        description="Shape of the model of family MultilayerPerceptron. Unset means one hidden layer of 64 ReLU units.",
    )
    convolutional_network: ConvolutionalNetwork | None = Field(
        None, description="Shape of the model of family ConvolutionalNetwork. Unset means its defaults."
    )
    recurrent_network: RecurrentNetwork | None = Field(
        None, description="Shape of the model of family RecurrentNetwork. Unset means its defaults."
    )
    transformer: Transformer | None = Field(
        None, description="Shape of the model of family Transformer. Unset means its defaults, an encoder."
    )
    pretrained: Pretrained | None = Field(None, description="The model that family Pretrained begins with.")
    custom: Custom | None = Field(None, description="The code of the network of family Custom.")

    @property
    def is_decoder(self) -> bool:
        """Does it learn to go on with a text?"""
        return self.transformer is not None and self.transformer.architecture is TransformerArchitecture.DECODER
