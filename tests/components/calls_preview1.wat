;; Calls whatever function of WASI preview 1 its client asks for, with whatever arguments: records of 80 bytes, the function's
;; number in the first and up to nine arguments of 8 bytes from the ninth on. The arguments are often pointers to themselves.
(module
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_res_get" (func $clock_res_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_advise" (func $fd_advise (param i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_allocate" (func $fd_allocate (param i32 i64 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_datasync" (func $fd_datasync (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $fd_fdstat_set_flags (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_rights" (func $fd_fdstat_set_rights (param i32 i64 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $fd_filestat_set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_times" (func $fd_filestat_set_times (param i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_sync" (func $fd_sync (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_tell" (func $fd_tell (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_set_times" (func $path_filestat_set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link" (func $path_link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_readlink" (func $path_readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_remove_directory" (func $path_remove_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_raise" (func $proc_raise (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv" (func $sock_recv (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send" (func $sock_send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_shutdown" (func $sock_shutdown (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  ;; At 0 the buffer for a record, which lies at 64.
  (data (i32.const 0) "\40\00\00\00\50\00\00\00")
  (func (export "_start")
    (loop $next
      ;; Anything but a record is the end.
      (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (return)))
      (if (i32.eqz (i32.load (i32.const 8))) (then (return)))
      (call $do)
      ;; What was called may have written there.
      (i64.store (i32.const 0) (i64.const 0x5000000040))
      (br $next)))
  (func $do
    (block $46
    (block $45
    (block $44
    (block $43
    (block $42
    (block $41
    (block $40
    (block $39
    (block $38
    (block $37
    (block $36
    (block $35
    (block $34
    (block $33
    (block $32
    (block $31
    (block $30
    (block $29
    (block $28
    (block $27
    (block $26
    (block $25
    (block $24
    (block $23
    (block $22
    (block $21
    (block $20
    (block $19
    (block $18
    (block $17
    (block $16
    (block $15
    (block $14
    (block $13
    (block $12
    (block $11
    (block $10
    (block $9
    (block $8
    (block $7
    (block $6
    (block $5
    (block $4
    (block $3
    (block $2
    (block $1
    (block $0
      (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11 $12 $13 $14 $15 $16 $17 $18 $19 $20 $21 $22 $23 $24 $25 $26 $27 $28 $29 $30 $31 $32 $33 $34 $35 $36 $37 $38 $39 $40 $41 $42 $43 $44 $45 $46 (i32.rem_u (i32.load8_u (i32.const 64)) (i32.const 46)))
    ) (drop (call $args_get (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $args_sizes_get (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $environ_get (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $environ_sizes_get (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $clock_res_get (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $clock_time_get (i32.load (i32.const 72)) (i64.load (i32.const 80)) (i32.load (i32.const 88)))) (return)
    ) (drop (call $fd_advise (i32.load (i32.const 72)) (i64.load (i32.const 80)) (i64.load (i32.const 88)) (i32.load (i32.const 96)))) (return)
    ) (drop (call $fd_allocate (i32.load (i32.const 72)) (i64.load (i32.const 80)) (i64.load (i32.const 88)))) (return)
    ) (drop (call $fd_close (i32.load (i32.const 72)))) (return)
    ) (drop (call $fd_datasync (i32.load (i32.const 72)))) (return)
    ) (drop (call $fd_fdstat_get (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $fd_fdstat_set_flags (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $fd_fdstat_set_rights (i32.load (i32.const 72)) (i64.load (i32.const 80)) (i64.load (i32.const 88)))) (return)
    ) (drop (call $fd_filestat_get (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $fd_filestat_set_size (i32.load (i32.const 72)) (i64.load (i32.const 80)))) (return)
    ) (drop (call $fd_filestat_set_times (i32.load (i32.const 72)) (i64.load (i32.const 80)) (i64.load (i32.const 88)) (i32.load (i32.const 96)))) (return)
    ) (drop (call $fd_pread (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i64.load (i32.const 96)) (i32.load (i32.const 104)))) (return)
    ) (drop (call $fd_prestat_get (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $fd_prestat_dir_name (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)))) (return)
    ) (drop (call $fd_pwrite (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i64.load (i32.const 96)) (i32.load (i32.const 104)))) (return)
    ) (drop (call $fd_read (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)))) (return)
    ) (drop (call $fd_readdir (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i64.load (i32.const 96)) (i32.load (i32.const 104)))) (return)
    ) (drop (call $fd_renumber (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $fd_seek (i32.load (i32.const 72)) (i64.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)))) (return)
    ) (drop (call $fd_sync (i32.load (i32.const 72)))) (return)
    ) (drop (call $fd_tell (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $fd_write (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)))) (return)
    ) (drop (call $path_create_directory (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)))) (return)
    ) (drop (call $path_filestat_get (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)) (i32.load (i32.const 104)))) (return)
    ) (drop (call $path_filestat_set_times (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)) (i64.load (i32.const 104)) (i64.load (i32.const 112)) (i32.load (i32.const 120)))) (return)
    ) (drop (call $path_link (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)) (i32.load (i32.const 104)) (i32.load (i32.const 112)) (i32.load (i32.const 120)))) (return)
    ) (drop (call $path_open (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)) (i32.load (i32.const 104)) (i64.load (i32.const 112)) (i64.load (i32.const 120)) (i32.load (i32.const 128)) (i32.load (i32.const 136)))) (return)
    ) (drop (call $path_readlink (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)) (i32.load (i32.const 104)) (i32.load (i32.const 112)))) (return)
    ) (drop (call $path_remove_directory (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)))) (return)
    ) (drop (call $path_rename (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)) (i32.load (i32.const 104)) (i32.load (i32.const 112)))) (return)
    ) (drop (call $path_symlink (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)) (i32.load (i32.const 104)))) (return)
    ) (drop (call $path_unlink_file (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)))) (return)
    ) (drop (call $poll_oneoff (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)))) (return)
    ) (drop (call $proc_raise (i32.load (i32.const 72)))) (return)
    ) (drop (call $sched_yield)) (return)
    ) (drop (call $random_get (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (drop (call $sock_accept (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)))) (return)
    ) (drop (call $sock_recv (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)) (i32.load (i32.const 104)) (i32.load (i32.const 112)))) (return)
    ) (drop (call $sock_send (i32.load (i32.const 72)) (i32.load (i32.const 80)) (i32.load (i32.const 88)) (i32.load (i32.const 96)) (i32.load (i32.const 104)))) (return)
    ) (drop (call $sock_shutdown (i32.load (i32.const 72)) (i32.load (i32.const 80)))) (return)
    ) (call $proc_exit (i32.load (i32.const 72))) (return)
    )))
