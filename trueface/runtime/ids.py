"""Data IDs, model IDs and poisons, in the grammar of the launcher."""

from launcher.api import DataId as DataId
from launcher.api import ModelId as ModelId
from launcher.api import Part as Part
from launcher.api import Poison as Poison
from launcher.api import Stage as Stage
from launcher.api import Words as Words
from launcher.api import canonical as canonical
from launcher.api import condition_of_test as condition_of_test
from launcher.api import data_of_test as data_of_test
from launcher.api import model_folder_name as model_folder_name
from launcher.api import parse_data as parse_data
from launcher.api import parse_model as parse_model
from launcher.api import parse_poison as parse_poison
from launcher.api import tested as tested
