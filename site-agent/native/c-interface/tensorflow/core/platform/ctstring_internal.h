// Everything is declared in one file.
#include "tensorflow/c/c_api.h"
