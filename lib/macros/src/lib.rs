//! `#[syscall(name)]`: declares a system call in one place.
//!
//! The attribute goes on a plain typed function and adds a constant beside it that carries the
//! call's numbers (from `abi::nr`), a wrapper that decodes the argument registers by the types of
//! the parameters (`kernel::syscall::SyscallArg`) and encodes the result
//! (`kernel::syscall::SyscallReturn`), and a function that prints the call for the trace.
//!
//! A first parameter named `frame`, of type `&mut TrapFrame`, takes no register: the call gets
//! the user's whole register state (`fork`, `execve`, `rt_sigreturn`).

use proc_macro::TokenStream;
use quote::{format_ident, quote};
use syn::{FnArg, Ident, ItemFn, Pat, parse_macro_input};

/// Declares a system call. The argument is the call's name in `syscalls(2)`.
///
/// `#[syscall(read)] fn sys_read(fd: Fd, …)` adds `pub const READ: Syscall`, which the file lists
/// in its `SYSCALLS`.
#[proc_macro_attribute]
pub fn syscall(attr: TokenStream, item: TokenStream) -> TokenStream {
    let name = parse_macro_input!(attr as Ident);
    let function = parse_macro_input!(item as ItemFn);
    expand(&name, &function).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(name: &Ident, function: &ItemFn) -> syn::Result<proc_macro2::TokenStream> {
    let constant = format_ident!("{}", name.to_string().to_uppercase());
    let callee = &function.sig.ident;
    let text = name.to_string();
    let doc = format!("`{text}(2)`, for the system call table.");

    let mut call_args = Vec::new();
    let mut decode = Vec::new();
    let mut trace = Vec::new();
    for input in &function.sig.inputs {
        let FnArg::Typed(arg) = input else {
            return Err(syn::Error::new_spanned(input, "a system call has no receiver"));
        };
        let ty = &arg.ty;
        let label = match &*arg.pat {
            Pat::Ident(ident) => ident.ident.to_string(),
            other => return Err(syn::Error::new_spanned(other, "an argument needs a plain name")),
        };
        if label == "frame" {
            call_args.push(quote!(frame));
            continue;
        }
        let index = decode.len();
        if index == 6 {
            return Err(syn::Error::new_spanned(arg, "a system call has at most six arguments"));
        }
        let variable = format_ident!("arg{}", index);
        let label = label.trim_start_matches('_').to_string();
        decode
            .push(quote!(let #variable = <#ty as crate::syscall::SyscallArg>::from_reg(registers[#index]);));
        trace.push(quote! {
            if #index > 0 { out.write_str(", ")?; }
            out.write_str(concat!(#label, "="))?;
            <#ty as crate::syscall::SyscallArg>::trace(registers[#index], out)?;
        });
        call_args.push(quote!(#variable));
    }

    Ok(quote! {
        #function

        #[doc = #doc]
        pub const #constant: crate::syscall::Syscall = {
            #[allow(unused_variables)]
            fn enter(frame: &mut ::arch::trap::TrapFrame) -> isize {
                let registers = frame.syscall_args();
                #(#decode)*
                crate::syscall::SyscallReturn::into_return(#callee(#(#call_args),*))
            }
            #[allow(unused_variables)]
            fn trace(registers: &[usize; 6], out: &mut dyn ::core::fmt::Write) -> ::core::fmt::Result {
                #(#trace)*
                Ok(())
            }
            crate::syscall::Syscall { nr: ::abi::nr::#constant, enter, trace }
        };
    })
}
