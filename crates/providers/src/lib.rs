//! Provider definitions as data: built-in and user files, merged and validated
