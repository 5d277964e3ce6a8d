// Declarations of the part of TensorFlow's stable C interface that the addon's sources use, for archives that bring the
// libraries without their headers. Names, signatures and numbers are those of TensorFlow's own headers (Apache-2.0);
// opaque types stay opaque, and strings go through exported functions instead of inline ones.

#ifndef CONSILIUM_TENSORFLOW_C_INTERFACE_H_
#define CONSILIUM_TENSORFLOW_C_INTERFACE_H_

#include <stddef.h>
#include <stdint.h>

extern "C" {

typedef enum TF_DataType {
  TF_FLOAT = 1,
  TF_INT32 = 3,
  TF_UINT8 = 4,
  TF_STRING = 7,
  TF_COMPLEX64 = 8,
  TF_INT64 = 9,
  TF_BOOL = 10,
  TF_RESOURCE = 20,
  TF_UINT64 = 23,
} TF_DataType;

typedef enum TF_AttrType {
  TF_ATTR_STRING = 0,
  TF_ATTR_INT = 1,
  TF_ATTR_FLOAT = 2,
  TF_ATTR_BOOL = 3,
  TF_ATTR_TYPE = 4,
  TF_ATTR_SHAPE = 5,
} TF_AttrType;

typedef enum TF_Code { TF_OK = 0, TF_INVALID_ARGUMENT = 3, TF_DATA_LOSS = 15, TF_UNAUTHENTICATED = 16 } TF_Code;

typedef struct TF_Buffer {
  const void* data;
  size_t length;
  void (*data_deallocator)(void* data, size_t length);
} TF_Buffer;

typedef struct TF_Operation TF_Operation;
typedef struct TF_Output {
  TF_Operation* oper;
  int index;
} TF_Output;

typedef struct TF_DeviceList TF_DeviceList;
typedef struct TF_Graph TF_Graph;
typedef struct TF_Session TF_Session;
typedef struct TF_SessionOptions TF_SessionOptions;
typedef struct TF_Status TF_Status;
typedef struct TF_Tensor TF_Tensor;
typedef struct TFE_Context TFE_Context;
typedef struct TFE_ContextOptions TFE_ContextOptions;
typedef struct TFE_Op TFE_Op;
typedef struct TFE_TensorHandle TFE_TensorHandle;

// 24 bytes, as TF_DataTypeSize(TF_STRING) says; what is in them is the library's.
typedef struct TF_TString {
  uint64_t words[3];
} TF_TString;
void TF_StringInit(TF_TString* t);
void TF_StringCopy(TF_TString* dst, const char* src, size_t size);
const char* TF_StringGetDataPointer(const TF_TString* tstr);
size_t TF_StringGetSize(const TF_TString* tstr);
void TF_StringDealloc(TF_TString* tstr);

TF_DeviceList* TFE_ContextListDevices(TFE_Context* ctx, TF_Status* status);
void TFE_DeleteContext(TFE_Context* ctx);
void TFE_DeleteContextOptions(TFE_ContextOptions*);
void TFE_DeleteOp(TFE_Op* op);
void TFE_DeleteTensorHandle(TFE_TensorHandle* h);
void TFE_Execute(TFE_Op* op, TFE_TensorHandle** retvals, int* num_retvals, TF_Status* status);
TFE_Context* TFE_NewContext(const TFE_ContextOptions* opts, TF_Status* status);
TFE_ContextOptions* TFE_NewContextOptions(void);
TFE_Op* TFE_NewOp(TFE_Context* ctx, const char* op_or_function_name, TF_Status* status);
TFE_TensorHandle* TFE_NewTensorHandle(const TF_Tensor* t, TF_Status* status);
void TFE_OpAddInput(TFE_Op* op, TFE_TensorHandle* input, TF_Status* status);
void TFE_OpSetAttrBool(TFE_Op* op, const char* attr_name, unsigned char value);
void TFE_OpSetAttrBoolList(TFE_Op* op, const char* attr_name, const unsigned char* values, int num_values);
void TFE_OpSetAttrFloat(TFE_Op* op, const char* attr_name, float value);
void TFE_OpSetAttrFloatList(TFE_Op* op, const char* attr_name, const float* values, int num_values);
void TFE_OpSetAttrInt(TFE_Op* op, const char* attr_name, int64_t value);
void TFE_OpSetAttrIntList(TFE_Op* op, const char* attr_name, const int64_t* values, int num_values);
void TFE_OpSetAttrShape(TFE_Op* op, const char* attr_name, const int64_t* dims, const int num_dims, TF_Status* out_status);
void TFE_OpSetAttrString(TFE_Op* op, const char* attr_name, const void* value, size_t length);
void TFE_OpSetAttrType(TFE_Op* op, const char* attr_name, TF_DataType value);
TFE_TensorHandle* TFE_TensorHandleCopyToDevice(TFE_TensorHandle* h, TFE_Context* ctx, const char* device_name, TF_Status* status);
TF_DataType TFE_TensorHandleDataType(TFE_TensorHandle* h);
int64_t TFE_TensorHandleDim(TFE_TensorHandle* h, int dim_index, TF_Status* status);
int TFE_TensorHandleNumDims(TFE_TensorHandle* h, TF_Status* status);
TF_Tensor* TFE_TensorHandleResolve(TFE_TensorHandle* h, TF_Status* status);
TF_Tensor* TF_AllocateTensor(TF_DataType, const int64_t* dims, int num_dims, size_t len);
size_t TF_DataTypeSize(TF_DataType dt);
void TF_DeleteBuffer(TF_Buffer*);
void TF_DeleteDeviceList(TF_DeviceList* list);
void TF_DeleteGraph(TF_Graph*);
void TF_DeleteSession(TF_Session*, TF_Status* status);
void TF_DeleteSessionOptions(TF_SessionOptions*);
void TF_DeleteStatus(TF_Status*);
void TF_DeleteTensor(TF_Tensor*);
int TF_DeviceListCount(const TF_DeviceList* list);
const char* TF_DeviceListName(const TF_DeviceList* list, int index, TF_Status* status);
const char* TF_DeviceListType(const TF_DeviceList* list, int index, TF_Status* status);
int64_t TF_Dim(const TF_Tensor* tensor, int dim_index);
TF_Code TF_GetCode(const TF_Status* s);
TF_Operation* TF_GraphOperationByName(TF_Graph* graph, const char* oper_name);
TF_Session* TF_LoadSessionFromSavedModel(const TF_SessionOptions* session_options, const TF_Buffer* run_options, const char* export_dir, const char* const* tags, int tags_len, TF_Graph* graph, TF_Buffer* meta_graph_def, TF_Status* status);
const char* TF_Message(const TF_Status* s);
TF_Buffer* TF_NewBuffer(void);
TF_Buffer* TF_NewBufferFromString(const void* proto, size_t proto_len);
TF_Graph* TF_NewGraph(void);
TF_SessionOptions* TF_NewSessionOptions(void);
TF_Status* TF_NewStatus(void);
TF_Tensor* TF_NewTensor(TF_DataType, const int64_t* dims, int num_dims, void* data, size_t len, void (*deallocator)(void* data, size_t len, void* arg), void* deallocator_arg);
int TF_NumDims(const TF_Tensor*);
void TF_SessionRun(TF_Session* session, const TF_Buffer* run_options, const TF_Output* inputs, TF_Tensor* const* input_values, int ninputs, const TF_Output* outputs, TF_Tensor** output_values, int noutputs, const TF_Operation* const* target_opers, int ntargets, TF_Buffer* run_metadata, TF_Status*);
size_t TF_TensorByteSize(const TF_Tensor*);
void* TF_TensorData(const TF_Tensor*);
int64_t TF_TensorElementCount(const TF_Tensor* tensor);
TF_DataType TF_TensorType(const TF_Tensor*);
const char* TF_Version(void);

}  // extern "C"

inline void TF_TString_Init(TF_TString* string) { TF_StringInit(string); }
inline void TF_TString_Copy(TF_TString* string, const char* from, size_t size) { TF_StringCopy(string, from, size); }
inline const char* TF_TString_GetDataPointer(const TF_TString* string) { return TF_StringGetDataPointer(string); }
inline size_t TF_TString_GetSize(const TF_TString* string) { return TF_StringGetSize(string); }
inline void TF_TString_Dealloc(TF_TString* string) { TF_StringDealloc(string); }

#endif  // CONSILIUM_TENSORFLOW_C_INTERFACE_H_
