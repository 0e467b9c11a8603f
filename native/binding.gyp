{
  'targets': [{
    'target_name': 'uvs',
    'sources': ['addon.cc', 'tun.cc', 'poll.cc', 'packet.cc', 'interface.cc', 'xsk.cc', 'bpf.cc'],
    'include_dirs': ["<!(node -p \"require('node-addon-api').include_dir\")"],
    'defines': ['NAPI_VERSION=8', 'NAPI_CPP_EXCEPTIONS'],
    'cflags_cc': ['-std=c++17', '-O2', '-Wall', '-Wextra', '-fexceptions'],
    'cflags_cc!': ['-fno-exceptions'],
  }]
}
